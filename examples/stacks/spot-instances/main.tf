# A stack of EC2 instances of several types, two of them On-Demand and the rest
# Spot, behind an Application Load Balancer. A release goes to the idle color; then
# the other variable moves the traffic.
#
#   terraform apply -var active=blue -var 'releases={blue="1",green="2"}' -var 'images={blue="ami-…",green="ami-…"}' …
#   terraform apply -var active=green …

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

variable "releases" {
  description = "The release of each color."
  type        = map(string)
}

variable "images" {
  description = "The AMI of each color."
  type        = map(string)
}

variable "vpc_id" {
  description = "The VPC of the instances."
  type        = string
}

variable "subnet_ids" {
  description = "The subnets of the instances: the more zones, the more Spot capacity."
  type        = list(string)
}

variable "listener_arn" {
  description = "The listener whose default action leads to the shop."
  type        = string
}

variable "protect_live" {
  description = "Whether what users reach is kept from harm. Apply false before a destroy of everything."
  type        = bool
  default     = true
}

resource "bluegreen_environment" "shop" {
  for_each     = toset(["blue", "green"])
  name         = "shop"
  color        = each.key
  release      = var.releases[each.key]
  vpc_id       = var.vpc_id
  protect_live = var.protect_live

  target_group = {
    port         = 80
    health_check = { path = "/health", interval = 5, timeout = 2, healthy_threshold = 2 }
  }

  instances = {
    image_id   = var.images[each.key]
    subnet_ids = var.subnet_ids
    min_size   = 2
    max_size   = 6
    user_data  = "#!/bin/sh\nsystemctl start shop\n"
    ingress    = [{ protocol = "tcp", from_port = 80, to_port = 80, cidr_blocks = ["10.0.0.0/8"] }]

    # Any of these is as good; where one gets scarce, another one takes its place
    # before AWS takes it away.
    mixed_instances_policy = {
      overrides = [
        { instance_type = "m7g.large" },
        { instance_type = "m6g.large" },
        { instance_type = "c7g.xlarge" },
      ]
      instances_distribution = {
        on_demand_base_capacity                  = 2
        on_demand_percentage_above_base_capacity = 0
        spot_allocation_strategy                 = "price-capacity-optimized"
      }
    }
    capacity_rebalance          = true
    instance_maintenance_policy = { min_healthy_percentage = 100, max_healthy_percentage = 150 }
  }

  tags = { team = "shop" }
}

resource "bluegreen_switch" "shop" {
  name         = "shop"
  active       = var.active
  environments = bluegreen_environment.shop
  routes       = [{ listener_arn = var.listener_arn }]
  parameter    = "/shop/current-live"

  # The color that gets the traffic is as large as the one that has it.
  capacity   = { before = "match_live" }
  validation = { healthy = { min_percent_of_live = 100, timeout = "10m" } }
}

output "live" {
  value = bluegreen_switch.shop.live
}
