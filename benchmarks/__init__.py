"""What the README's figures come from: `python -m benchmarks.FOLDER.NAME` measures one of them."""
