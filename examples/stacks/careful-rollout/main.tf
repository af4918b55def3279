# A rollout that looks where it goes: checks before the first request, 10 % and
# 50 % with a hold each, and everything back by itself if users fare worse.
#
#   terraform apply -var active=green -var listener_arn=… -var url=https://www.example.com \
#     -var 'target_group_arns={blue="…",green="…"}' -var 'releases={blue="1.41.0",green="1.42.0"}'

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
  description = "The listener whose default action leads to the app."
  type        = string
}

variable "target_group_arns" {
  description = "The target group of each color."
  type        = map(string)
}

variable "releases" {
  description = "What runs in each color."
  type        = map(string)
  default     = {}
}

variable "url" {
  description = "The address by which users come."
  type        = string
}

variable "hold" {
  description = "How long each step is watched. CloudWatch needs a few minutes to tell anything."
  type        = string
  default     = "5m"
}

variable "alarms" {
  description = "CloudWatch alarms that must not be on."
  type        = list(string)
  default     = []
}

variable "min_requests" {
  description = "Below so many requests in a hold nothing is said about the new color."
  type        = number
  default     = 100
}

variable "topic" {
  description = "The SNS topic that is told what happens."
  type        = string
  default     = null
}

resource "bluegreen_switch" "app" {
  name      = "myapp"
  active    = var.active
  routes    = [{ listener_arn = var.listener_arn }]
  parameter = "/myapp/current-live"

  environments = {
    for color, arn in var.target_group_arns :
    color => { target_group_arn = arn, release = lookup(var.releases, color, null) }
  }

  # The idle color is reached by a header, on the listener that users come by.
  preview_routes = [{
    listener_arn = var.listener_arn
    priority     = 5
    conditions   = { http_headers = { "X-Preview" = ["idle"] } }
  }]

  validation = {
    healthy = { min_count = 2, sustained = "10s", interval = "2s" }
    http    = [{ url = "${var.url}/health", headers = { "X-Preview" = "idle" }, max_latency = "1s" }]
  }

  strategy = {
    steps = [{ weight = 10, hold = var.hold }, { weight = 50, hold = var.hold }]
    # Every answer carries its color, so the nodes themselves say when they follow.
    prove = { url = "${var.url}/health", header = "x-color" }
  }

  verification = {
    duration = var.hold
    healthy  = { min_percent_of_live = 100 }
    http     = [{ url = "${var.url}/health" }]
    alarms   = var.alarms
    metrics = [
      { metric = "error_rate", max = 0.01, min_requests = var.min_requests, inconclusive = "pass" },
      { metric = "latency_p99", max_ratio_to_live = 1.5, min_requests = var.min_requests, inconclusive = "pass" },
    ]
  }

  notify = var.topic == null ? null : { sns_topic_arn = var.topic }
}

output "live" {
  value = bluegreen_switch.app.live
}

output "last_rollout" {
  value = bluegreen_switch.app.last_rollout
}
