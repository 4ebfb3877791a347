"""One round of Flower's SecAgg+ without a network: its workflow, its client mod, its messages.

Run by benchmarks/peers/masked_rounds.py in Flower's virtual environment:

    python flower_secagg_app.py SETTINGS

SETTINGS is JSON: shapes, cohort, lost (clients that fall silent while they train), shares,
threshold, seed. Each message is written as protobuf by its sender and read by its receiver, as
between a SuperNode and a SuperLink. Prints JSON: processor seconds of the server and, by stage, of
all clients; bytes of messages up and down; how far the mean is from the exact one. The training,
which adds noise to the weights, does not count.
"""

import json
import os
import sys
import time

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import numpy as np
from flwr.app import ConfigRecord, Context, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import (
    Code,
    FitRes,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.compat.common import recorddict_compat as compat
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.server import LegacyContext, SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import (
    MAIN_CONFIGS_RECORD,
    MAIN_PARAMS_RECORD,
    Key,
)
from flwr.supercore.task_identity import TaskIdentity

EXAMPLES = 100
STAGES = ("keys", "shares", "masked update", "unmasking")


class Proxy(ClientProxy):
    """Only its id is used: the workflow sends messages to nodes."""

    def __init__(self, node_id):
        super().__init__(str(node_id))
        self.node_id = node_id

    def _unused(self, *_):
        raise NotImplementedError

    get_properties = get_parameters = fit = evaluate = reconnect = _unused


Proxy.__abstractmethods__ = frozenset()


class Nodes:
    """Takes the place of a Grid: the clients run here, one after another."""

    def __init__(self, settings, initial):
        self.settings, self.initial = settings, initial
        self.contexts = {
            node: Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
            for node in range(1, settings["cohort"] + 1)
        }
        self.stage, self.up, self.down = 0, 0, 0
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.training = 0.0

    def send_and_receive(self, messages, *, timeout=None):
        lost = range(1, self.settings["lost"] + 1) if STAGES[self.stage] == "masked update" else ()
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            sent = message_to_proto(message).SerializeToString()
            if node in lost:
                continue
            self.down += len(sent)
            before, trained = time.process_time(), self.training
            told = message_from_proto(ProtoMessage.FromString(sent))
            reply = secaggplus_mod(told, self.contexts[node], self.train)
            answer = message_to_proto(reply).SerializeToString()
            spent = time.process_time() - before - (self.training - trained)
            self.seconds[STAGES[self.stage]] += spent
            self.up += len(answer)
            replies.append(message_from_proto(ProtoMessage.FromString(answer)))
        self.stage += 1
        return replies

    def train(self, message, context):
        """What a client app does: it adds noise to the weights that it gets."""
        started = time.process_time()
        node = context.node_id
        weights = parameters_to_ndarrays(
            compat.recorddict_to_fitins(message.content, keep_input=True).parameters
        )
        draw = np.random.default_rng([self.settings["seed"], node])
        changed = []
        for array in weights:
            change = draw.normal(0, 0.01, array.shape).astype(np.float32)
            changed.append(array + change)
        result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(changed), EXAMPLES, {})
        self.training += time.process_time() - started
        content = compat.fitres_to_recorddict(result, keep_input=False)
        return type(message)(content, reply_to=message)


def error_of(found, initial, settings):
    """The root mean square of the difference to the exact mean, over that of the changes."""
    nodes = range(settings["lost"] + 1, settings["cohort"] + 1)
    draws = [np.random.default_rng([settings["seed"], node]) for node in nodes]
    apart = size = 0.0
    for array, start in zip(found, initial, strict=True):
        mean = sum(d.normal(0, 0.01, start.shape).astype(np.float32) for d in draws) / len(nodes)
        apart += float(np.square(array - (start + mean)).sum())
        size += float(np.square(mean).sum())
    return (apart / size) ** 0.5


def measure(settings):
    """The figures of one round."""
    cohort = settings["cohort"]
    draw = np.random.default_rng(settings["seed"])
    initial = [draw.normal(0, 0.05, shape).astype(np.float32) for shape in settings["shapes"]]
    manager = SimpleClientManager()
    for node in range(1, cohort + 1):
        manager.register(Proxy(node))
    context = LegacyContext(
        Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={}),
        strategy=FedAvg(min_fit_clients=cohort, min_available_clients=cohort),
        client_manager=manager,
    )
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    before = compat.parameters_to_arrayrecord(ndarrays_to_parameters(initial), keep_input=True)
    context.state.array_records[MAIN_PARAMS_RECORD] = before
    nodes = Nodes(settings, initial)
    workflow = SecAggPlusWorkflow(
        settings["shares"], settings["threshold"], max_weight=float(EXAMPLES)
    )
    started = time.process_time()
    workflow(nodes, context)
    seconds = time.process_time() - started
    after = context.state.array_records[MAIN_PARAMS_RECORD]
    completed = after is not before
    found = {
        "completed": completed,
        "server": seconds - sum(nodes.seconds.values()) - nodes.training,
        "clients": nodes.seconds,
        "up": nodes.up,
        "down": nodes.down,
    }
    if completed:
        arrays = parameters_to_ndarrays(compat.arrayrecord_to_parameters(after, keep_input=True))
        found["error"] = error_of(arrays, initial, settings)
    return found


def main():
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    small = {"shapes": [[20, 10]], "cohort": 3, "lost": 0, "shares": 3, "threshold": 2, "seed": 1}
    measure(small)  # what is imported and compiled at the first use counts for nobody
    print(json.dumps(measure(json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
