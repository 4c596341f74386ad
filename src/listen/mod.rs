//! Connections, before there is a request: places for them, and what is closed because it does not get on.
//! Both listeners use it.

pub mod descriptors;
mod framing;
mod places;
mod watch;

pub use framing::Head;
pub use places::{Place, Places};
pub use watch::{HEADERS_KEPT, IDLE, Overdue, Pulse, Watched, overdue};
