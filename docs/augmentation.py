"""Augmentation: the model learns from photos that are cropped, mirrored, turned and tinted at random.

The right thing where new photos will vary in ways that yours do not show yet: framing, angle, light. Not where the
change alters the class (a mirrored letter, the colour of a ripe fruit). Whether it helps is seen on photos held back:
this trains with and without it, and takes the one that does better there.

    python docs/augmentation.py FOLDER     one sub-folder of photos per class
"""

import sys

import tlapp


def main(folder: str) -> None:
    photos = tlapp.scan(folder)
    plan, found = tlapp.suggest(photos), {}
    for strength in ("off", "medium"):  # or light, strong; "augmentation.rotation" and others set one change
        run = tlapp.start(photos, plan.with_settings({"frozen": "all", "augmentation": strength}))
        for event in tlapp.follow(run):
            print(event, file=sys.stderr)
        found[strength] = run.report()["validation_accuracy"], run
        print(f"Augmentation {strength}: {found[strength][0]:.0%} of the photos held back right.")

    best = max(found, key=lambda strength: found[strength][0])  # test photos take no part in this choice
    score = tlapp.evaluate_run(found[best][1])
    low, high = score["interval"]
    print(f"Augmentation {best}: {score['accuracy']:.0%} of {score['n']} test photos right, {low:.0%} to {high:.0%}.")


if __name__ == "__main__":
    main(sys.argv[1])
