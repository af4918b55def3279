# Gives a column another name while both colors read and write it. Each phase is an apply of its own.
resource "bluegreen_migration" "preference" {
  name     = "rename-user-preference"
  database = { url = var.database_url } # url_wo with Terraform 1.11: not in the state

  expand   = file("${path.module}/001_expand.sql")
  backfill = file("${path.module}/002_backfill.sql")
  contract = file("${path.module}/003_contract.sql")
  batched  = true # backfill is repeated until it changes no row

  phase = "expand" # then "backfill", then "contract"
  guard = { parameter = "/myapp/current-live", live = "green", stable_for = "24h" }
}

# The switch does not go back to a release that needs what is gone.
resource "bluegreen_switch" "app" {
  name           = "myapp"
  active         = var.active
  environments   = bluegreen_environment.app
  routes         = [{ listener_arn = aws_lb_listener.https.arn }]
  parameter      = "/myapp/current-live"
  contracted_for = bluegreen_migration.preference.contracted_for
}
