variable "name" {
  description = "The application's name: letters, digits and dashes."
  type        = string
}

variable "active" {
  description = "The color that is to be live. Without it, whichever is live stays."
  type        = string
  default     = null
}

variable "releases" {
  description = "What runs in each color, in your words."
  type        = map(string)
}

variable "images" {
  description = "The AMI of each color."
  type        = map(string)
}

variable "user_data" {
  description = "The user data of each color, as text."
  type        = map(string)
  default     = {}
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "load_balancer_subnet_ids" {
  description = "At least two subnets in different zones."
  type        = list(string)
}

variable "instance_subnet_ids" {
  description = "Where the instances run."
  type        = list(string)
}

variable "client_cidr_blocks" {
  description = "Who may reach the load balancer."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "certificate_arn" {
  description = "The certificate for HTTPS. Without one it is HTTP."
  type        = string
  default     = null
}

variable "internal" {
  description = "Whether the load balancer has only private addresses."
  type        = bool
  default     = false
}

variable "port" {
  description = "The port that the instances serve on."
  type        = number
  default     = 80
}

variable "health_check" {
  description = "What differs from the usual health check: path, interval, timeout, thresholds, matcher."
  type        = any
  default     = {}
}

variable "instance_type" {
  description = "The instances' type."
  type        = string
  default     = "t3.medium"
}

variable "min_size" {
  description = "The least number of instances of a color."
  type        = number
  default     = 2
}

variable "desired_capacity" {
  description = "The number of instances of a color at first."
  type        = number
  default     = 2
}

variable "max_size" {
  description = "The greatest number of instances of a color."
  type        = number
  default     = 4
}

variable "parity" {
  description = "What happens when the colors are not built alike: error, warn or off."
  type        = string
  default     = "error"
}

variable "protect_live" {
  description = "Whether a live color is kept from harm. Set it to false, and apply, before destroying everything."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags for everything."
  type        = map(string)
  default     = {}
}
