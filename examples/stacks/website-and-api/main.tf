# A website on a public load balancer and its API on an internal one. Both are
# released together: they move in the same steps, and go back together.
#
#   terraform apply -var active=green -var website_listener_arn=… -var api_listener_arn=… \
#     -var 'website_target_group_arns={blue="…",green="…"}' -var 'api_target_group_arns={blue="…",green="…"}'

terraform {
  required_providers {
    bluegreen = { source = "bluegreen/bluegreen" }
  }
}

# Region, credentials and endpoints come from the environment.
provider "bluegreen" {}

variable "active" {
  description = "The color that is to be live."
  type        = string
}

variable "website_listener_arn" {
  description = "The listener of the public load balancer."
  type        = string
}

variable "api_listener_arn" {
  description = "The listener of the internal load balancer."
  type        = string
}

variable "website_target_group_arns" {
  description = "The website's target group of each color."
  type        = map(string)
}

variable "api_target_group_arns" {
  description = "The API's target group of each color."
  type        = map(string)
}

variable "hold" {
  description = "How long the first step is watched."
  type        = string
  default     = "5m"
}

variable "max_latency" {
  description = "The API's slowest hundredth may take so many seconds."
  type        = number
  default     = 0.3
}

variable "min_requests" {
  description = "Below so many requests nothing is said of a target group."
  type        = number
  default     = 100
}

resource "bluegreen_switch" "shop" {
  name   = "shop"
  active = var.active

  environments = {
    for color, website in var.website_target_group_arns :
    color => { target_group_arn = website, target_groups = { api = var.api_target_group_arns[color] } }
  }

  routes = [
    { listener_arn = var.website_listener_arn },
    { listener_arn = var.api_listener_arn, target_group = "api" },
  ]
  parameter = "/shop/current-live"

  strategy = { steps = [{ weight = 20, hold = var.hold }] }

  verification = {
    duration = var.hold
    healthy  = { min_percent_of_live = 100 }
    metrics = [
      # Of each target group by itself …
      { metric = "error_rate", max = 0.01, min_requests = var.min_requests, inconclusive = "pass" },
      # … and of the API's alone.
      { metric = "latency_p99", target_group = "api", max = var.max_latency, min_requests = var.min_requests, inconclusive = "pass" },
    ]
  }
}

output "live" {
  value = bluegreen_switch.shop.live
}
