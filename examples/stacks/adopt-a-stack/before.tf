# A stack as many teams have it: a listener that a pipeline moves from blue to green, and a parameter that says who is live.
variable "load_balancer_arn" {
  description = "The load balancer."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

resource "aws_lb_target_group" "shop" {
  for_each    = toset(["blue", "green"])
  name        = "shop-${each.key}"
  port        = 8080
  protocol    = "HTTP"
  target_type = "ip"
  vpc_id      = var.vpc_id
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = var.load_balancer_arn
  port              = 8080
  protocol          = "HTTP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.shop["blue"].arn
  }

  # The pipeline's weights, and from now on the switch's, are not this resource's business.
  lifecycle {
    ignore_changes = [default_action]
  }
}
