//! The executor on the fake world.

