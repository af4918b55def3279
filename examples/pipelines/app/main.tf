# The stack that the pipelines of this folder release: an ECS service in two colors behind a listener.
#
# What a pipeline says: `releases`, what is to run on each color, and `active`, which color is to be live. Without `active` the
# switch follows whoever is live and moves nothing, so a release to the idle color can't touch users.
terraform {
  required_version = ">= 1.6"

  required_providers {
    bluegreen = {
      source = "bluegreen/bluegreen"
    }
  }
}

# Region and credentials come from the environment.
provider "bluegreen" {}

variable "active" {
  description = "The color that is to be live; null: whichever is."
  type        = string
  default     = null
}

variable "releases" {
  description = "The image's tag on each color."
  type        = map(string)
}

variable "repository" {
  description = "The image's repository, without a tag."
  type        = string
}

variable "cluster" {
  description = "The ECS cluster."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Where tasks run."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Security groups of the tasks."
  type        = list(string)
}

variable "listener_arn" {
  description = "The listener that users come by."
  type        = string
}

variable "url" {
  description = "Where users find the app."
  type        = string
}

variable "hold" {
  description = "How long each step is watched."
  type        = string
  default     = "5m"
}

locals {
  colors = toset(["blue", "green"])
}

resource "bluegreen_environment" "app" {
  for_each     = local.colors
  name         = "shop"
  color        = each.key
  release      = var.releases[each.key]
  vpc_id       = var.vpc_id
  listener_arn = var.listener_arn

  target_group = {
    port         = 8080
    protocol     = "HTTP"
    target_type  = "ip"
    health_check = { path = "/health" }
  }

  service = {
    cluster            = var.cluster
    task_definition    = file("${path.module}/task-definition.json")
    container_name     = "app"
    container_port     = 8080
    image              = "${var.repository}:${var.releases[each.key]}"
    desired_count      = 2
    subnet_ids         = var.subnet_ids
    security_group_ids = var.security_group_ids
  }
}

resource "bluegreen_switch" "app" {
  name         = "shop"
  active       = var.active
  environments = bluegreen_environment.app
  parameter    = "/shop/current-live"

  routes = [{ listener_arn = var.listener_arn }]
  # Who sends this header sees the idle color: smoke tests, and whoever wants to look.
  preview_routes = [{ listener_arn = var.listener_arn, priority = 1, conditions = { http_headers = { x-preview = ["1"] } } }]

  validation = { http = [{ url = "${trimsuffix(var.url, "/")}/health", headers = { x-preview = "1" }, status = [200], retries = 5 }] }
  strategy = {
    steps = [{ weight = 10, hold = var.hold }]
    prove = { url = var.url, header = "x-color" }
  }
  verification = { duration = var.hold, http = [{ url = var.url, status = [200] }] }
}

output "live" {
  description = "The color that serves users."
  value       = bluegreen_switch.app.live
}

output "idle" {
  description = "The color that the next release goes to."
  value       = bluegreen_switch.app.idle
}

output "live_release" {
  description = "What users get."
  value       = bluegreen_environment.app[bluegreen_switch.app.live].release
}

output "idle_release" {
  description = "What the idle color has."
  value       = bluegreen_environment.app[bluegreen_switch.app.idle].release
}
