output "dns_name" {
  description = "Where clients find the application."
  value       = aws_lb.this.dns_name
}

output "zone_id" {
  description = "The load balancer's hosted zone, for an alias record."
  value       = aws_lb.this.zone_id
}

output "listener_arn" {
  description = "The listener, for further rules."
  value       = aws_lb_listener.this.arn
}

output "live" {
  description = "The color that gets the traffic."
  value       = bluegreen_switch.this.live
}

output "idle" {
  description = "The color that the next release goes to."
  value       = bluegreen_switch.this.idle
}

output "environments" {
  description = "Both colors' stacks."
  value       = bluegreen_environment.this
}
