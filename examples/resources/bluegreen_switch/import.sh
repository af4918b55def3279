# By the record: finds the listeners and rules that lead to the color that it names.
terraform import bluegreen_switch.app /myapp/current-live

# By the ARN of a listener or rule, or by several and a record, separated by commas.
terraform import bluegreen_switch.app arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2
terraform import bluegreen_switch.app /myapp/current-live,arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2

# In another region than the provider's, which an ARN says itself; the configuration has region = "eu-west-1".
terraform import bluegreen_switch.app /myapp/current-live@eu-west-1
