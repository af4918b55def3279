variable "name" {
  description = "The name of the switch."
  type        = string
}

variable "active" {
  description = "The color that is to be live."
  type        = string
}

variable "target_group_arns" {
  description = "The target group of each color."
  type        = map(string)
}

variable "listener_arn" {
  description = "The listener whose default action another module, provider or team keeps."
  type        = string
}

variable "priority" {
  description = "The place of the rule among the listener's rules: what comes before it is not moved."
  type        = number
  default     = 10
}

variable "path_patterns" {
  description = "The paths that the switch moves, all of them by default."
  type        = list(string)
  default     = ["/*"]
}

variable "parameter" {
  description = "The SSM parameter that says which color is live."
  type        = string
}

variable "strategy" {
  description = "The steps in which traffic moves, as the switch has them; all at once by default."
  type        = any
  default     = null
}

variable "verification" {
  description = "What is watched while it does, as the switch has it."
  type        = any
  default     = null
}
