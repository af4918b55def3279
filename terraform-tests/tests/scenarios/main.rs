//! Stories played with a real terraform, the real provider and real HTTP through the local load balancer.

mod arguments;
mod breakage;
mod composition;
mod databases;
mod environments;
mod faults;
mod fuzz;
mod gates;
mod heart;
mod imports;
mod invalid;
mod native;
mod pipelines;
mod processes;
mod removal;
mod rings;
mod rollouts;
mod routes;
mod secrets;
mod security;
mod services;
mod sessions;
mod stops;
mod switching;
mod wire;
mod with_aws;
