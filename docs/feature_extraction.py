"""Feature extraction: the pretrained network stays as it is, and a linear head is fitted on what it puts out.

The right start with up to some hundred photos, and wherever things look like those in everyday photographs: nothing in
the network can be learned by heart, and the head is fitted to its optimum in seconds.

    python docs/feature_extraction.py FOLDER     one sub-folder of photos per class
"""

import sys

import tlapp


def main(folder: str) -> None:
    photos = tlapp.scan(folder)
    plan = tlapp.suggest(photos).with_settings({"frozen": "all"})  # all blocks frozen: an exact head
    run = tlapp.start(photos, plan)
    for event in tlapp.follow(run):
        print(event, file=sys.stderr)

    score = tlapp.evaluate_run(run)  # on test photos, which took part in no choice
    low, high = score["interval"]
    print(f"Feature extraction: {score['accuracy']:.0%} of {score['n']} test photos right, {low:.0%} to {high:.0%}.")


if __name__ == "__main__":
    main(sys.argv[1])
