# One network of bench.go in PyTorch. For each line of standard input, a number of
# training steps, it takes them and writes a line: least time of a step, processor
# time of a step, peak memory so far.
# usage: pytorch_nets.py NAME-BATCH contiguous|channels_last; TORCH_THREADS
import json, os, resource, sys, time
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(int(os.environ.get("TORCH_THREADS", os.cpu_count())))


class Block(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o)
        self.c2, self.b2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.short = nn.Identity()
        if s != 1 or i != o:
            self.short = nn.Sequential(nn.Conv2d(i, o, 1, s, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        return F.relu(self.b2(self.c2(F.relu(self.b1(self.c1(x))))) + self.short(x))


def resnet44():
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    c = 16
    for o, s in [(16, 1), (32, 2), (64, 2)]:
        for k in range(7):
            layers.append(Block(c, o, s if k == 0 else 1))
            c = o
    return nn.Sequential(*layers, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10))


def f1():
    layers, d = [nn.Flatten()], 784
    for _ in range(5):
        layers += [nn.Linear(d, 512), nn.BatchNorm1d(512), nn.ReLU()]
        d = 512
    return nn.Sequential(*layers, nn.Linear(512, 10))


def c1():
    return nn.Sequential(
        nn.Conv2d(3, 64, 5, 1, 2, bias=False), nn.MaxPool2d(3, 2), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Conv2d(64, 64, 5, 1, 2, bias=False), nn.MaxPool2d(3, 2), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 384, bias=False), nn.BatchNorm1d(384), nn.ReLU(),
        nn.Linear(384, 192, bias=False), nn.BatchNorm1d(192), nn.ReLU(), nn.Linear(192, 10))


(name, batch), layout = sys.argv[1].split("-"), sys.argv[2]
make, shape = {
    "F1": (f1, (1, 28, 28)),
    "C1": (c1, (3, 32, 32)),
    "ResNet44": (resnet44, (3, 32, 32)),
}[name]
torch.manual_seed(0)
net, x, y = make(), torch.randn(int(batch), *shape), torch.randint(0, 10, (int(batch),))
if layout == "channels_last":
    net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)


def step():
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()


step()
step()
for line in sys.stdin:
    steps, least, used = int(line), 1e9, time.process_time()
    for _ in range(steps):
        start = time.perf_counter()
        step()
        least = min(least, time.perf_counter() - start)
    print(json.dumps({
        "Milliseconds": least * 1e3,
        "CPUMilliseconds": (time.process_time() - used) * 1e3 / steps,
        "PeakMB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }), flush=True)
