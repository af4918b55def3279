# The switch takes the routing over as it is: the first apply moves nothing, since `active` is omitted.
resource "bluegreen_switch" "shop" {
  name         = "shop"
  environments = { for color, group in aws_lb_target_group.shop : color => { target_group_arn = group.arn } }
  routes       = [{ listener_arn = aws_lb_listener.http.arn }]
  parameter    = "/shop/current-live"
}

import {
  to = bluegreen_switch.shop
  id = "/shop/current-live"
}

output "live" {
  description = "The color that serves users, whoever moved the traffic."
  value       = bluegreen_switch.shop.live
}
