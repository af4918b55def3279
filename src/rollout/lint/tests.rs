//! One planted fault per rule, and nothing to find in runbooks of many shapes.

mod good;
mod planted;
