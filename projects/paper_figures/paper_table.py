"""Print every FLOPs figure of the DyNet paper beside the count of our network."""

from argparse import ArgumentParser

from figures.paper import figures_table, reductions_table


def main():
    ArgumentParser(description=__doc__).parse_args()
    print(f"{figures_table()}\n{reductions_table()}", end="")


if __name__ == "__main__":
    main()
