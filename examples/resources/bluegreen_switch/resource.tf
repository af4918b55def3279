variable "active" {
  description = "The color that is to be live: blue or green."
  type        = string
}

resource "bluegreen_switch" "app" {
  name   = "myapp"
  active = var.active

  environments = {
    blue  = { target_group_arn = aws_lb_target_group.blue.arn, release = "1.41.0" }
    green = { target_group_arn = aws_lb_target_group.green.arn, release = "1.42.0" }
  }

  routes = [
    # The default action of a listener. Give aws_lb_listener the lifecycle rule
    # ignore_changes = [default_action], so that only the switch moves it.
    { listener_arn = aws_lb_listener.https.arn },
    # A rule that the switch makes and owns.
    {
      listener_arn = aws_lb_listener.https.arn
      priority     = 10
      conditions   = { host_headers = ["api.example.com"], path_patterns = ["/v2/*"] }
    },
  ]

  # Always leads to the idle color: look at a release before any user does.
  preview_routes = [{
    listener_arn = aws_lb_listener.https.arn
    priority     = 5
    conditions   = { host_headers = ["preview.example.com"] }
  }]

  parameter = "/myapp/current-live"

  validation = {
    healthy = { min_count = 2, timeout = "10m" }
    http = [{
      url          = "https://{color}.example.com/health"
      body_matches = "\"status\":\\s*\"ok\""
      max_latency  = "500ms"
    }]
  }

  # 10% for five minutes, then 50%, then everything; the last step to 100% is implied.
  strategy = {
    steps = [{ weight = 10, hold = "5m" }, { weight = 50, hold = "5m" }]
  }

  # If users fare worse with the new color, everything goes back.
  verification = {
    duration = "10m"
    alarms   = ["myapp-5xx"]
    metrics  = [{ metric = "error_rate", max = 0.01, min_requests = 100 }]
  }
}
