//! Stories played with a real terraform, the real provider and real HTTP through the local load balancer.

mod switching;
