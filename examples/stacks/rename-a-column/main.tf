# A column gets another name while both colors read and write it: blue knows the old name, green the new one.
#
#   phase = "expand"                     the new column is there, and both are kept the same
#   (deploy the new release to green)
#   phase = "backfill"                   old rows are copied, a thousand at a time
#   active = "green"                     half of the users, then all
#   phase = "contract"                   a day later: the old column goes
#
# Each is an apply; expand and backfill can be one.
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

variable "phase" {
  description = "The phase up to which the migration has run."
  type        = string
}

variable "releases" {
  description = "What runs on each color."
  type        = map(string)
}

variable "database_url" {
  description = "postgres://… or mysql://…"
  type        = string
  sensitive   = true
}

variable "listener_arn" {
  description = "The listener whose traffic moves."
  type        = string
}

variable "target_group_arns" {
  description = "The colors' target groups."
  type        = map(string)
}

variable "sql" {
  description = "The folder with the migration's files: postgres or mysql."
  type        = string
  default     = "postgres"
}

variable "stable_for" {
  description = "How long green must have been live before the old column goes."
  type        = string
  default     = "24h"
}

resource "bluegreen_migration" "preference" {
  name     = "rename-user-preference"
  database = { url = var.database_url }

  expand   = file("${path.module}/${var.sql}/001_expand.sql")
  backfill = file("${path.module}/${var.sql}/002_backfill.sql")
  contract = file("${path.module}/${var.sql}/003_contract.sql")
  batched  = true

  phase = var.phase
  guard = { parameter = "/myapp/current-live", live = "green", stable_for = var.stable_for }
}

resource "bluegreen_switch" "app" {
  name   = "myapp"
  active = var.active
  environments = {
    for color, arn in var.target_group_arns : color => { target_group_arn = arn, release = var.releases[color] }
  }
  routes    = [{ listener_arn = var.listener_arn }]
  parameter = "/myapp/current-live"
  strategy  = { steps = [{ weight = 50, hold = "2s" }] }

  # Refuses to go back to a release that needs the old column, once it is gone.
  contracted_for = bluegreen_migration.preference.contracted_for
}

output "live" {
  description = "The color that is live."
  value       = bluegreen_switch.app.live
}

output "phases" {
  description = "What has run, when, and who ran it."
  value       = bluegreen_migration.preference.phases
}
