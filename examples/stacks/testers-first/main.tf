# Testers meet a release in production, on the production address, before
# anybody else does: whoever carries the cookie cohort=testers gets the new color first.
#
#   terraform apply -var active=green -var listener_arn=… -var 'target_group_arns={blue="…",green="…"}'

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

variable "listener_arn" {
  description = "The listener of the load balancer."
  type        = string
}

variable "target_group_arns" {
  description = "The target group of each color."
  type        = map(string)
}

variable "hold" {
  description = "How long the testers have the new color alone, and how long each step is watched."
  type        = string
  default     = "15m"
}

resource "bluegreen_switch" "shop" {
  name   = "shop"
  active = var.active

  environments = {
    for color, arn in var.target_group_arns : color => { target_group_arn = arn }
  }

  # The website, and a rule of its own for the API.
  routes = [
    { listener_arn = var.listener_arn },
    { listener_arn = var.listener_arn, priority = 100, conditions = { path_patterns = ["/api/*"] } },
  ]
  parameter = "/shop/current-live"

  strategy = {
    cohort = {
      conditions = { http_headers = { Cookie = ["*cohort=testers*"] } }
      hold       = var.hold
    }
    steps = [{ weight = 10, hold = var.hold }]
  }

  verification = {
    duration = var.hold
    healthy  = { min_percent_of_live = 100 }
  }
}

output "live" {
  value = bluegreen_switch.shop.live
}
