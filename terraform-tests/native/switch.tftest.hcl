# What a team would assert of its own switch.

run "plan_says_what_will_happen" {
  command = plan

  assert {
    condition     = bluegreen_switch.app.live == "blue" && bluegreen_switch.app.idle == "green"
    error_message = "blue should be live after the first apply"
  }
  assert {
    condition     = contains(bluegreen_switch.app.runbook, "write /native/current-live: blue")
    error_message = "the runbook should write the record: ${jsonencode(bluegreen_switch.app.runbook)}"
  }
}

run "blue_goes_live" {
  assert {
    condition     = bluegreen_switch.app.weights["blue"] == 100 && bluegreen_switch.app.weights["green"] == 0
    error_message = "blue should have everything"
  }
  assert {
    condition     = bluegreen_switch.app.previous == null
    error_message = "nothing was live before"
  }
}

run "green_follows" {
  variables {
    active = "green"
  }
  assert {
    condition     = bluegreen_switch.app.live == "green" && bluegreen_switch.app.previous == "blue"
    error_message = "green should be live, blue before it"
  }
  assert {
    condition     = bluegreen_switch.app.last_rollout.status == "completed"
    error_message = "the rollout should be complete"
  }
  assert {
    condition     = provider::bluegreen::other(bluegreen_switch.app.live, ["blue", "green"]) == "blue"
    error_message = "the other color is blue"
  }
}
