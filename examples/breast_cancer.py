"""Three hospitals learn to tell benign tumours from malignant ones; none shows its data.

    python -m examples.breast_cancer

scikit-learn's breast cancer set, logistic regression, five rounds. Ten lines do it:
"""

from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from client_sdk import SklearnTask, simulate

if __name__ == "__main__":
    x, y = load_breast_cancer(return_X_y=True)
    x, test_x, y, test_y = train_test_split(scale(x), y, test_size=0.2, random_state=0)
    task = SklearnTask(LogisticRegression())
    result = simulate(task, train=(x, y), test=(test_x, test_y), clients=3, rounds=5)
    pooled = LogisticRegression().fit(x, y).score(test_x, test_y)
    print(f"accuracy {result.metrics['accuracy']:.2%}; of the pooled data {pooled:.2%}")
