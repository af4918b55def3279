output "live" {
  description = "The live color."
  value       = bluegreen_switch.this.live
}

output "weights" {
  description = "The part of the traffic that each color has, in percent."
  value       = bluegreen_switch.this.weights
}
