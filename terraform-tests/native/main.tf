terraform {
  required_providers {
    bluegreen = { source = "bluegreen/bluegreen" }
  }
}

# Region, credentials and endpoint come from the environment: the default chain needs no argument.
provider "bluegreen" {}

variable "blue" { type = string }
variable "green" { type = string }
variable "listener_arn" { type = string }

variable "active" {
  type    = string
  default = "blue"
}

resource "bluegreen_switch" "app" {
  name   = "native"
  active = var.active
  environments = {
    blue  = { target_group_arn = var.blue, release = "1.0" }
    green = { target_group_arn = var.green, release = "1.1" }
  }
  routes     = [{ listener_arn = var.listener_arn }]
  parameter  = "/native/current-live"
  on_destroy = "restore"
}
