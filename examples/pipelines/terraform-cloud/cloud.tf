# The same stack in a workspace of HCP Terraform: put this file beside main.tf.
#
# The workspace gets, as environment variables, credentials that it makes for each run and that nobody can leak:
#   TFC_AWS_PROVIDER_AUTH = true
#   TFC_AWS_RUN_ROLE_ARN  = arn:aws:iam::123456789012:role/terraform
#   AWS_REGION            = eu-central-1
# and as Terraform variables what the stack needs (repository, cluster, …). The provider needs no argument for any of it.
terraform {
  cloud {
    organization = "example"

    workspaces {
      name = "shop-production"
    }
  }
}
