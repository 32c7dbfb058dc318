//! Where an entry comes from, kept beside the entry all the way into the plan and the ledger.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The profile line that an entry comes from, and the reason its author gave. It goes wherever
/// the entry goes, so its texts are shared and not copied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// `level-3.toml`, `packs/rust.toml`, or the path of an override; `rung` for what the program
    /// itself always adds.
    #[serde(with = "text")]
    pub file: Arc<str>,
    /// Counted from 1; 0 where there is no line.
    pub line: u32,
    #[serde(with = "text")]
    pub because: Arc<str>,
}

impl Origin {
    /// What rung itself adds to every plan, whatever the profile says.
    pub fn built_in(because: &str) -> Self {
        Self { file: "rung".into(), line: 0, because: because.into() }
    }
}

/// `level-3.toml:41`
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// A shared text is written and read as a text; read without a copy in between.
mod text {
    use std::fmt;
    use std::sync::Arc;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    struct Text;

    impl Visitor<'_> for Text {
        type Value = Arc<str>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Arc<str>, E> {
            Ok(text.into())
        }
    }

    pub(super) fn serialize<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        from.deserialize_str(Text)
    }
}
