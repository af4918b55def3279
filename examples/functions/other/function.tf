# Where the next release goes: the color that is not live.
output "deploy_to" {
  value = provider::bluegreen::other(bluegreen_switch.app.live, ["blue", "green"])
}
