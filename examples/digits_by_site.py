"""Three sites with an image folder each learn to read digits; each has mostly digits of its own.

    python -m examples.digits_by_site

The folder has SITE/train/CLASS/*.png and SITE/test/CLASS/*.png. One line a site says how good the
last model is on what that site held out.
"""

from client_sdk import load, picture_task, simulate
from examples.sample_files import folders_of_digits

if __name__ == "__main__":
    pictures = load(folders_of_digits())
    by_folder = {"name": "by-column", "site_column": "folder"}
    result = simulate(picture_task(pictures), pictures, split=by_folder, rounds=4)
    print(f"accuracy {result.metrics['accuracy']:.2%}")
    for site in result.sites.sites:
        print(f"{site.site} ({site.examples} images): {site.value:.2%}")
