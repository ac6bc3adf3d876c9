// The newest points of one circuit; older ones fall out, so that a page left open for days stays small.

const MOST_POINTS = 4000;

export class Ring {
  constructor(most = MOST_POINTS) {
    this.most = most;
    this.points = [];
  }

  /** Add a point {at, watts, limit}; one that is not newer than the last is left out. */
  push(point) {
    const last = this.points.at(-1);
    if (last && point.at <= last.at) return;
    this.points.push(point);
    // Half at a time: taking one from the front each second would move all others each second.
    if (this.points.length > this.most) this.points.splice(0, this.points.length - this.most / 2);
  }

  /** Forget what is not newer than `at`: the history has it. */
  dropUntil(at) {
    this.points = this.points.filter((point) => point.at > at);
  }

  clear() {
    this.points = [];
  }
}
