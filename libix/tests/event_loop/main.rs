//! The event loop against the fake kernel: calls of a round, ownership of memory, ends of
//! connections. (Named `situation_what follows`.)

mod app;
mod calls;
mod life;
mod memory;
