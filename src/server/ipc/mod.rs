//! What crosses between the server's processes: messages with their descriptors, capabilities, and
//! memory without a name.

pub mod capability;
pub mod helper_messages;
pub mod hook_messages;
pub mod line;
pub mod memfd;
pub mod monitor_messages;
pub mod slots;
