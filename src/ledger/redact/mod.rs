//! stub
use crate::model::Arg;
#[derive(Default, Debug)]
pub struct Redactor;
impl Redactor {
    pub fn new(_: &[&[u8]]) -> Self {
        Self
    }
    pub fn argv(&self, _: &mut [Arg]) -> usize {
        0
    }
    pub fn word(&self, _: &mut Arg) -> usize {
        0
    }
    pub fn text(&self, _: &mut String) -> usize {
        0
    }
    pub fn variable(&self, _: &str, _: &mut Arg) -> usize {
        0
    }
}
