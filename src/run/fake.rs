//! A world in memory, with faults.

