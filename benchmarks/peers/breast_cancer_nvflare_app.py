"""examples/breast_cancer.py with NVFlare.

python breast_cancer_nvflare_app.py north.csv south.csv west.csv test.csv
"""

import sys
from pathlib import Path

import joblib
import numpy as np
import nvflare.client as flare
from nvflare.app_opt.sklearn.recipes.fedavg import SklearnFedAvgRecipe
from nvflare.recipe import SimEnv, set_per_site_config
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import scale


def read(path):
    rows = np.genfromtxt(path, str, delimiter=",", skip_header=1)
    x = np.where(rows[:, :-1] == "", "nan", rows[:, :-1]).astype(float)
    return scale(SimpleImputer().fit_transform(x)), rows[:, -1]


def model_of(weights):
    model = LogisticRegression(max_iter=10, warm_start=True)
    model.classes_ = np.array(["benign", "malignant"])
    model.coef_, model.intercept_ = np.array(weights["coef"]), np.array(weights["intercept"])
    return model


def take_part(path):
    flare.init()
    x, y = read(path)
    while flare.is_running():
        model = model_of(flare.receive().params).fit(x, y)
        weights = {"coef": model.coef_, "intercept": model.intercept_}
        flare.send(flare.FLModel(params=weights, meta={"NUM_STEPS_CURRENT_ROUND": len(y)}))


def run(sites, test):
    initial = {"coef": np.zeros((1, 30)).tolist(), "intercept": [0.0]}
    recipe = SklearnFedAvgRecipe(
        min_clients=3, num_rounds=5, model_params=initial, train_script=__file__
    )
    arguments = {f"site-{n}": {"train_args": f"--site {p}"} for n, p in enumerate(sites, 1)}
    set_per_site_config(recipe, arguments)
    done = recipe.execute(SimEnv(clients=list(arguments), workspace_root=str(Path.cwd())))
    (found,) = Path(done.get_result()).rglob("model_param.joblib")
    print(f"accuracy {model_of(joblib.load(found)).score(*read(test)):.2%}")


if __name__ == "__main__":
    take_part(sys.argv[2]) if sys.argv[1] == "--site" else run(sys.argv[1:4], sys.argv[4])
