"""Fine-tuning: the last blocks of the pretrained network learn too, slowly, after the head alone has learned first.

Worth trying from about a hundred photos on, above all where they are unlike everyday photographs (microscopes, X-rays,
drawings), as the network's features were made for those. It takes longer, and with few photos it learns them by heart.

    python docs/fine_tuning.py FOLDER     one sub-folder of photos per class
"""

import sys

import tlapp


def main(folder: str) -> None:
    photos = tlapp.scan(folder)
    suggested = tlapp.suggest(photos)
    first = ",".join(suggested.frozen[:-2])  # these stay as they are; the last two blocks learn
    run = tlapp.start(photos, suggested.with_settings({"frozen": first, "epochs": "12", "patience": "4"}))
    for event in tlapp.follow(run):
        print(event, file=sys.stderr)

    score = tlapp.evaluate_run(run)  # on test photos, which took part in no choice
    low, high = score["interval"]
    print(f"Fine-tuning: {score['accuracy']:.0%} of {score['n']} test photos right, {low:.0%} to {high:.0%}.")
    both = run.report()["compared"]  # with a plain head on the frozen network, on photos held back from both
    print(f"Of {both['n']} photos held back it is right about {both['run']}, a plain head about {both['instant']}.")


if __name__ == "__main__":
    main(sys.argv[1])
