# Both colors of a stack of EC2 instances. `bluegreen_environment.app` is what a switch takes as `environments`.
resource "bluegreen_environment" "app" {
  for_each = toset(["blue", "green"])
  name     = "myapp"
  color    = each.key
  release  = var.releases[each.key]
  vpc_id   = var.vpc_id

  target_group = {
    port         = 80
    protocol     = "HTTP"
    health_check = { path = "/health", interval = 30, timeout = 5, healthy_threshold = 2, unhealthy_threshold = 2 }
  }

  instances = {
    image_id         = var.images[each.key]
    instance_type    = "t3.medium"
    user_data        = templatefile("${path.module}/user_data.sh", { color = each.key })
    subnet_ids       = var.subnet_ids
    min_size         = 2
    desired_capacity = 2
    max_size         = 4
    ingress          = [{ protocol = "tcp", from_port = 80, to_port = 80, security_group_ids = [var.load_balancer_security_group_id] }]
  }
}

# An ECS service. `listener_arn` makes its target group known to the load balancer before anything leads to it.
resource "bluegreen_environment" "api" {
  for_each     = toset(["blue", "green"])
  name         = "api"
  color        = each.key
  release      = var.releases[each.key]
  vpc_id       = var.vpc_id
  listener_arn = aws_lb_listener.https.arn

  target_group = {
    port         = 8080
    health_check = { path = "/health" }
  }

  service = {
    cluster            = "main"
    task_definition    = file("${path.module}/task-definition.json")
    container_name     = "api"
    container_port     = 8080
    image              = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/api:${var.releases[each.key]}"
    desired_count      = 2
    subnet_ids         = var.subnet_ids
    security_group_ids = [var.api_security_group_id]
    keep_revisions     = 5
  }
}

# A target group that somebody else keeps, with fixed targets.
resource "bluegreen_environment" "legacy" {
  for_each         = aws_lb_target_group.legacy
  name             = "legacy"
  color            = each.key
  target_group_arn = each.value.arn
  targets          = [for address in var.addresses[each.key] : { id = address, port = 80 }]
}
