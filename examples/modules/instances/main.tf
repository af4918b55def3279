# Everything that a web application on EC2 needs for blue-green releases, from a VPC id to a DNS name: a load balancer,
# both colors' stacks, and the switch between them.

terraform {
  required_providers {
    aws       = { source = "hashicorp/aws" }
    bluegreen = { source = "bluegreen/bluegreen" }
  }
}

locals {
  https = var.certificate_arn != null
}

resource "aws_security_group" "load_balancer" {
  name_prefix = "${var.name}-lb-"
  description = "Load balancer of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = var.tags

  ingress {
    description = "Clients"
    protocol    = "tcp"
    from_port   = local.https ? 443 : 80
    to_port     = local.https ? 443 : 80
    cidr_blocks = var.client_cidr_blocks
  }

  egress {
    description = "Instances"
    protocol    = "-1"
    from_port   = 0
    to_port     = 0
    cidr_blocks = ["0.0.0.0/0"]
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_lb" "this" {
  name               = var.name
  load_balancer_type = "application"
  internal           = var.internal
  subnets            = var.load_balancer_subnet_ids
  security_groups    = [aws_security_group.load_balancer.id]
  tags               = var.tags
}

resource "aws_lb_listener" "this" {
  load_balancer_arn = aws_lb.this.arn
  port              = local.https ? 443 : 80
  protocol          = local.https ? "HTTPS" : "HTTP"
  certificate_arn   = var.certificate_arn
  ssl_policy        = local.https ? "ELBSecurityPolicy-TLS13-1-2-2021-06" : null

  # What is answered until the switch is there.
  default_action {
    type = "fixed-response"

    fixed_response {
      status_code  = "503"
      content_type = "text/plain"
      message_body = "Not yet"
    }
  }

  # Where the listener leads belongs to the switch.
  lifecycle {
    ignore_changes = [default_action]
  }
}

resource "bluegreen_environment" "this" {
  for_each     = toset(["blue", "green"])
  name         = var.name
  color        = each.key
  release      = var.releases[each.key]
  vpc_id       = var.vpc_id
  protect_live = var.protect_live
  tags         = var.tags

  target_group = {
    port                 = var.port
    protocol             = "HTTP"
    deregistration_delay = 60
    health_check         = merge({ path = "/health", interval = 30, timeout = 5, healthy_threshold = 2, unhealthy_threshold = 2 }, var.health_check)

    # An idle color without healthy instances must not make Route 53 think that the load balancer is down.
    target_group_health = { dns_failover = { minimum_healthy_targets_count = "off" } }
  }

  instances = {
    image_id         = var.images[each.key]
    instance_type    = var.instance_type
    user_data        = lookup(var.user_data, each.key, null)
    subnet_ids       = var.instance_subnet_ids
    min_size         = var.min_size
    desired_capacity = var.desired_capacity
    max_size         = var.max_size

    ingress = [{
      description        = "Load balancer"
      protocol           = "tcp"
      from_port          = var.port
      to_port            = var.port
      security_group_ids = [aws_security_group.load_balancer.id]
    }]
  }
}

resource "bluegreen_switch" "this" {
  name         = var.name
  active       = var.active
  environments = bluegreen_environment.this
  routes       = [{ listener_arn = aws_lb_listener.this.arn }]
  parameter    = "/${var.name}/current-live"
  parity       = var.parity

  # Destroying the switch brings the listener's first answer back, so that the colors can go as well.
  on_destroy = "restore"
}
