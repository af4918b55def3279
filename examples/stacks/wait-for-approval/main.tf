# A release that waits at 10 % until somebody says yes, without a pipeline that
# waits for them: the apply ends, and the next one goes on or back.
#
#   terraform apply -var active=green                        # to 10 %, and there it waits
#   terraform apply -var active=green -var approved=true     # on, from the checks
#   terraform apply -var active=blue                         # or back, at once

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

variable "approved" {
  description = "Whether the release may have all users."
  type        = bool
  default     = false
}

variable "listener_arn" {
  description = "The listener whose default action leads to the app."
  type        = string
}

variable "target_group_arns" {
  description = "The target group of each color."
  type        = map(string)
}

variable "hold" {
  description = "How long each step is watched."
  type        = string
  default     = "5m"
}

variable "timeout" {
  description = "How long the release waits for an approval."
  type        = string
  default     = "24h"
}

variable "freeze" {
  description = "Times in which no release begins. The way back is always open."
  type = list(object({
    cron      = optional(string)
    duration  = optional(string)
    time_zone = optional(string)
    from      = optional(string)
    until     = optional(string)
    reason    = optional(string)
  }))
  default = [{ cron = "0 16 * * FRI", duration = "64h", time_zone = "Europe/Zurich", reason = "nobody is there on weekends" }]
}

resource "bluegreen_switch" "app" {
  name      = "myapp"
  active    = var.active
  routes    = [{ listener_arn = var.listener_arn }]
  parameter = "/myapp/current-live"

  environments = {
    for color, arn in var.target_group_arns : color => { target_group_arn = arn }
  }

  strategy = {
    rehearse = true
    steps    = [{ weight = 10, hold = var.hold }, { weight = 50, hold = var.hold }]
    up_to    = var.approved ? 100 : 10
    approval = { by = "the web team", timeout = var.timeout, on_timeout = "rollback" }
  }

  freeze = var.freeze

  verification = {
    duration = var.hold
    healthy  = { min_percent_of_live = 100 }
  }
}

output "live" {
  value = bluegreen_switch.app.live
}
