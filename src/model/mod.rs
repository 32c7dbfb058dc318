//! The nouns every other module speaks: plain data, no effects, no decisions.
//!
//! A [`Request`] is what somebody asked for, [`HostFacts`] what this machine can do, an
//! [`Origin`] the profile line an answer comes from, a [`Denial`] the one shape in which every
//! layer says no, an [`ExecFact`] what a task of the sandbox starts, an [`Outcome`] what became of a run. Nothing here may read a file, the clock,
//! the environment or the kernel.

mod address;
mod arg;
mod attempt;
mod denial;
mod digest;
mod exec;
mod git_index;
mod host;
mod host_name;
mod level;
mod origin;
mod outcome;
mod path_map;
mod ports;
mod quantity;
mod request;
mod url_path;

pub use address::{AddressClass, Range, RangeError, classify};
pub use arg::{Arg, NulByte, is_deceptive, printable};
pub use attempt::{Attempt, Attempts, Protocol};
pub use denial::{Denial, Layer};
pub use digest::Digest;
pub use exec::{Ancestor, Caller, ExecFact, Image, Look, Object, Spot};
pub use git_index::{Gitlinks, NotAnIndex, gitlinks, read_gitlinks};
pub use host::{
    Arch, Cause, HostFacts, Mechanism, PathFact, PathKind, Probe, ProgramFact, ProgramLocation,
};
pub use host_name::{HostName, HostPattern, NameError};
pub use level::{Level, UnknownLevel};
pub use origin::Origin;
pub use outcome::{Changed, LayerUse, Outcome, Status, Traffic, Usage};
pub use path_map::{PathMap, is_plain, lexical, lies_in, walk_order};
pub use ports::{Ports, PortsError};
pub use quantity::{Bytes, Count, Quantity, QuantityError, Span, parse as parse_quantity};
pub use request::{Ids, Repository, RepositoryLayer, Request, Store, Streams, Tree};
pub use url_path::{UrlPath, UrlPathError, UrlPathPattern, UrlPathPatternError};
