"""moto as a server for one local AWS, or a nursery of such servers for a whole test run.

    moto_server.py                  prints its port, serves until its standard input closes
    moto_server.py COMMAND...       runs the command, and forks a server for every connection to the socket that
                                    the command finds in BLUEGREEN_MOTO_NURSERY: the server writes its port there
                                    and serves until the connection closes

A server binds a port itself, so that nobody can take it in between, and cannot outlive whoever it was started for.
Loading moto, and the first call to each of its services, takes two seconds: the nursery does it once.
"""

import collections
import functools
import gc
import inspect
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile

# Nothing is left beside the sources.
sys.dont_write_bytecode = True

import service_model
from moto import backends
from moto.autoscaling.models import AutoScalingBackend
from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.ec2.models.launch_templates import LaunchTemplateVersion
from moto.ec2.responses.launch_templates import LaunchTemplates
from moto.elbv2.models import ELBv2Backend
from moto.elbv2.responses import ELBV2Response
from moto.moto_api._internal import mock_random
from moto.moto_server import threaded_moto_server
from moto.moto_server.threaded_moto_server import DomainDispatcherApplication, ThreadedMotoServer
from moto.ssm.exceptions import ValidationException
from moto.ssm.models import SimpleSystemManagerBackend
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

# A call that changes nothing, by service: the call's text, and its target where it is JSON.
FIRST_CALLS = {
    "application-autoscaling": ('{"ServiceNamespace":"ecs"}', "AnyScaleFrontendService.DescribeScalableTargets"),
    "autoscaling": ("Action=DescribeAutoScalingGroups&Version=2011-01-01", None),
    "ec2": ("Action=DescribeSubnets&Version=2016-11-15", None),
    "ecs": ("{}", "AmazonEC2ContainerServiceV20141113.ListClusters"),
    "elasticloadbalancing": ("Action=DescribeLoadBalancers&Version=2015-12-01", None),
    "iam": ("Action=ListRoles&Version=2010-05-08", None),
    "monitoring": ("Action=DescribeAlarms&Version=2010-08-01", None),
    "sns": ("Action=ListTopics&Version=2010-03-31", None),
    "ssm": ('{"Names":["/none"]}', "AmazonSSM.GetParameters"),
    "sts": ("Action=GetCallerIdentity&Version=2011-06-15", None),
}


def user_data(version):
    """User data of a template's later versions is a plain string in moto, which its own launch of instances doesn't take."""
    text = version.data.get("UserData")
    return Base64EncodedString(text) if isinstance(text, str) else text


LaunchTemplateVersion.user_data = property(user_data)



def put_parameter(self, *args, **parameter):
    """AWS makes no parameter without a type, which an update may leave out; moto does if it may overwrite."""
    parameter = inspect.signature(put).bind(self, *args, **parameter).arguments
    if not parameter.get("parameter_type") and self.get_parameter(parameter["name"]) is None:
        raise ValidationException("A parameter type is required when you create a parameter.")
    return put(**parameter)


put = SimpleSystemManagerBackend.put_parameter
SimpleSystemManagerBackend.put_parameter = put_parameter


def validate_actions(self, actions):
    """moto knows no jwt-validation."""
    return validate(self, [action for action in actions if action.type != "jwt-validation"])


validate = ELBv2Backend._validate_actions
ELBv2Backend._validate_actions = validate_actions


def validate_conditions(self, conditions):
    """Nor regular expressions."""
    return judge(self, [condition for condition in conditions if not has_regex(condition)])


def has_regex(condition):
    configs = [value for value in condition.values() if isinstance(value, dict)]
    return any(part.get("RegexValues") for part in [condition, *configs])


judge = ELBv2Backend._validate_conditions
ELBv2Backend._validate_conditions = validate_conditions


def create_rule(self):
    """moto forgets what a rule rewrites."""
    answer = create(self)
    answer.result["Rules"][0].transforms = self._get_params().get("Transforms", [])
    return answer


def modify_rule(self):
    """And takes no change of that alone."""
    params = self._get_params()
    if params.get("Conditions") or params.get("Actions") or not (params.get("Transforms") or params.get("ResetTransforms")):
        answer = modify(self)
    else:
        rules = list(self.elbv2_backend.describe_rules(None, [params["RuleArn"]]))
        answer = ActionResult({"Rules": rules})
    if "Transforms" in params or params.get("ResetTransforms"):
        answer.result["Rules"][0].transforms = params.get("Transforms", [])
    return answer


create, modify = ELBV2Response.create_rule, ELBV2Response.modify_rule
ELBV2Response.create_rule, ELBV2Response.modify_rule = create_rule, modify_rule

def update_group(self, *args, **parameter):
    """An update that says nothing of the types leaves them as they are; moto forgets them."""
    bound = inspect.signature(update).bind(self, *args, **parameter)
    said = bound.arguments
    if not said.get("mixed_instances_policy") and not said.get("launch_template") and not said.get("launch_config_name"):
        group = self.autoscaling_groups.get(said["name"])
        said["mixed_instances_policy"] = group.mixed_instances_policy if group else None
    return update(*bound.args, **bound.kwargs)


update = AutoScalingBackend.update_auto_scaling_group
AutoScalingBackend.update_auto_scaling_group = update_group


def create_template_version(self):
    """A version takes over from its source what it doesn't say, which moto knows nothing of."""
    source = self._get_param("SourceVersion")
    if source:
        template = self.ec2_backend.get_launch_template(self._get_param("LaunchTemplateId"))
        former = dict(template.get_version(int(source)).data)
        former.update(self._get_params().get("LaunchTemplateData", {}))
        version = template.create_version(former, None)
        result = {"LaunchTemplateId": template.id, "VersionNumber": version.number, "LaunchTemplateData": version.data}
        return ActionResult({"LaunchTemplateVersion": result})
    return create_version(self)


create_version = LaunchTemplates.create_launch_template_version
LaunchTemplates.create_launch_template_version = create_template_version

# moto lists its own folder, with all its parts, at every request.
MODULES = list(backends.list_of_moto_modules())
backends.list_of_moto_modules = lambda: MODULES
# The application of a service keeps nothing itself: all servers have the same one.
threaded_moto_server.create_backend_app = functools.cache(threaded_moto_server.create_backend_app)


class Judge:
    """What a request breaks of AWS's service model is said at a path of its own; all others are moto's."""

    def __init__(self, create_app):
        self.moto = DomainDispatcherApplication(create_app)

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] != "/_model":
            return self.moto(environ, start_response)
        request = Request(environ)
        of = [request.headers.get(f"x-judged-{part}", "") for part in ("service", "operation", "kind")]
        way = [request.headers.get(f"x-judged-{part}", "") for part in ("method", "path")]
        try:
            broken = service_model.check(*of, request.get_data(), *way)
        except Exception as error:  # What the judge can't read is a finding, too.
            broken = [f"it can't be judged: {error!r}"]
        return Response("\n".join(broken))(environ, start_response)


threaded_moto_server.DomainDispatcherApplication = Judge


def serve(say, wait, end=lambda: None):
    """Starts a server, says its port, and ends this process once the waiting is over."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    say(b"%d\n" % server.get_host_and_port()[1])
    wait()
    end()
    os._exit(0)


def serve_one(connection, log):
    """In the child: a server for whoever is at the other end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # The forks must not draw the same ids.
    random.seed()
    mock_random.seed()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    line = lambda: json.dumps(service_model.judged).encode() + b"\n"
    serve(connection.sendall, lambda: connection.recv(1), lambda: os.write(log, line()))


def warm_up():
    """Calls every service once: what is loaded then, the servers have from the start."""
    client = Client(threaded_moto_server.DomainDispatcherApplication(threaded_moto_server.create_backend_app))
    for service, (text, target) in FIRST_CALLS.items():
        scope = f"20260101/eu-central-1/{service}/aws4_request"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential=test/{scope}, SignedHeaders=host, Signature=none"}
        kind = "application/x-amz-json-1.1" if target else "application/x-www-form-urlencoded"
        headers |= {"Content-Type": kind} | ({"X-Amz-Target": target} if target else {})
        answer = client.post("/", data=text, headers=headers)
        if answer.status_code != 200:
            sys.exit(f"moto does not answer {service}: {answer.status}")
        service_model.model(service)


def told(path):
    """How much was held against AWS's service models, in a line."""
    judged = collections.Counter()
    with open(path, encoding="ascii") as lines:
        for line in lines:
            judged.update(json.loads(line))
    return f"{judged.total():,} requests of {len(judged)} operations were held against AWS's service models"


def nursery(command):
    """Runs a command beside the servers that it asks for, and ends as it ends."""
    warm_up()
    # What is there now is never garbage, and what comes goes with its server: to look for it is a tenth of the work.
    gc.freeze()
    gc.disable()
    servers = []
    with tempfile.TemporaryDirectory(prefix="bluegreen-nursery-") as folder:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(folder, "socket"))
        listener.listen(64)
        log = os.open(os.path.join(folder, "judged"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        child = subprocess.Popen(command, env=os.environ | {"BLUEGREEN_MOTO_NURSERY": listener.getsockname()})
        # A terminal tells the whole group of Ctrl-C, the command too.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        listener.settimeout(0.2)
        while child.poll() is None:
            servers = [pid for pid in servers if os.waitpid(pid, os.WNOHANG) == (0, 0)]
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            # There is one thread here, so that what is forked is whole.
            servers.append(os.fork() or serve_one(connection, log))
            connection.close()
        for pid in servers:
            os.waitpid(pid, 0)
        print(told(os.path.join(folder, "judged")), file=sys.stderr)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    os.environ["MOTO_ECS_SERVICE_RUNNING"] = "2"
    if sys.argv[1:]:
        sys.exit(nursery(sys.argv[1:]))
    serve(lambda line: os.write(1, line), lambda: sys.stdin.buffer.read())
