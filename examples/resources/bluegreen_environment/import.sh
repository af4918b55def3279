# Made by this provider before: by name and color.
terraform import 'bluegreen_environment.app["blue"]' myapp/blue

# Made by somebody else: followed by what it is made of. Instances get a security
# group of their own with the first apply, and are replaced for it.
terraform import 'bluegreen_environment.app["blue"]' 'myapp/blue,arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/legacy-blue/73e2d6bc24d8a067,asg:legacy-blue'

# An ECS service; its target group stays somebody else's.
terraform import 'bluegreen_environment.api["blue"]' 'api/blue,arn:aws:ecs:eu-central-1:123456789012:service/main/api-blue,adopt'

# In another region than the provider's; the configuration has region = "eu-west-1".
terraform import 'bluegreen_environment.app["blue"]' myapp/blue@eu-west-1
