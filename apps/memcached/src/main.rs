//! memcached as an application of the dataplane; `-h` lists its arguments.

#![cfg_attr(bare, no_std, no_main)]
#![deny(unsafe_code)]

libix::main!(memcached_server::start);
