# A switch that moves nobody to a color that does not know them: somebody logs in on the live color, and must be known
# to the other one by the same cookies.
terraform {
  required_providers {
    bluegreen = {
      source = "bluegreen/bluegreen"
    }
  }
}

variable "active" {
  description = "The color that is to be live."
  type        = string
}

variable "listener_arn" {
  description = "The listener whose traffic moves."
  type        = string
}

variable "target_group_arns" {
  description = "The colors' target groups."
  type        = map(string)
}

variable "app_url" {
  description = "Where users find the app, such as https://app.example.com."
  type        = string
}

variable "color_url" {
  description = "Where one color is found, such as https://{color}.app.example.com."
  type        = string
}

resource "bluegreen_switch" "app" {
  name         = "app"
  active       = var.active
  environments = { for color, arn in var.target_group_arns : color => { target_group_arn = arn } }
  routes       = [{ listener_arn = var.listener_arn }]
  parameter    = "/app/current-live"

  validation = {
    session = {
      login = {
        url     = "${var.app_url}/login"
        method  = "POST"
        headers = { "content-type" = "application/x-www-form-urlencoded" }
        body    = "user=smoke-test"
      }
      check = { url = "${var.color_url}/whoami", status = [200], body_matches = "smoke-test" }
    }
  }
}
