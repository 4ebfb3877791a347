"""examples/breast_cancer.py with Flower.

python breast_cancer_flower_app.py north.csv south.csv west.csv test.csv
"""

import sys

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import scale

FILES = sys.argv[1:]  # Flower's processes have arguments of their own
client, server = ClientApp(), ServerApp()


def read(path):
    rows = np.genfromtxt(path, str, delimiter=",", skip_header=1)
    x = np.where(rows[:, :-1] == "", "nan", rows[:, :-1]).astype(float)
    return scale(SimpleImputer().fit_transform(x)), rows[:, -1]


def model_of(arrays):
    model = LogisticRegression(max_iter=10, warm_start=True)
    model.classes_ = np.array(["benign", "malignant"])
    model.coef_, model.intercept_ = arrays.to_numpy_ndarrays()
    return model


@client.train()
def train(message, context):
    x, y = read(FILES[context.node_config["partition-id"]])
    model = model_of(message.content["arrays"]).fit(x, y)
    arrays = ArrayRecord([model.coef_, model.intercept_])
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": len(y)})})
    return Message(content, reply_to=message)


@server.main()
def main(grid, context):
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3)
    initial = ArrayRecord([np.zeros((1, 30)), np.zeros(1)])
    result = strategy.start(grid, initial, num_rounds=5)
    print(f"accuracy {model_of(result.arrays).score(*read(FILES[3])):.2%}")


if __name__ == "__main__":
    run_simulation(server, client, num_supernodes=3)
