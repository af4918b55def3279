terraform {
  required_providers {
    bluegreen = {
      source  = "bluegreen/bluegreen"
      version = "~> 0.1"
    }
  }
}

# Credentials and region come from AWS's default chain; nothing has to be set.
provider "bluegreen" {
  region = "eu-central-1"

  default_tags = {
    tags = { team = "platform" }
  }
}
