"""Three hospitals learn to tell benign tumours from malignant ones; none shows its patients.

    python -m examples.breast_cancer

Each hospital has a CSV, of unequal sizes and with missing values. What scikit-learn's logistic
regression learns from all of them together stands beside what it would learn from the pooled rows.
"""

from sklearn.linear_model import LogisticRegression

from client_sdk import SklearnTask, read_sites, simulate
from examples.sample_files import hospitals

if __name__ == "__main__":
    *files, test_file = hospitals()  # north.csv, south.csv, west.csv; test.csv
    sites = read_sites(files, label="diagnosis")
    test = sites.read(test_file)
    result = simulate(SklearnTask(LogisticRegression()), train=sites, test=test, rounds=5)
    pooled = LogisticRegression().fit(*sites.pooled.columns).score(*test.columns)
    print(f"accuracy {result.metrics['accuracy']:.2%}; of the pooled rows {pooled:.2%}")
