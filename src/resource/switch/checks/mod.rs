//! The checks of a switch, as users write them: `validation`, `verification`, and the steps between.

pub(super) mod parse;
pub(super) mod schema;
pub(super) mod validate;
