terraform {
  required_version = ">= 1.8"
  required_providers {
    bluegreen = { source = "bluegreen/bluegreen" }
  }
}

resource "bluegreen_switch" "this" {
  name         = var.name
  active       = var.active
  environments = { for color, arn in var.target_group_arns : color => { target_group_arn = arn } }
  parameter    = var.parameter

  # In front of the default action, which stays whoever's it is.
  routes = [{
    listener_arn = var.listener_arn
    priority     = var.priority
    conditions   = { path_patterns = var.path_patterns }
  }]

  strategy     = var.strategy
  verification = var.verification
}
