package main

// heapFloor is how much the heap grows by before garbage is collected, however little of it is in use. Requests leave garbage and
// nothing else: a host that holds next to nothing would collect hundreds of times a second. The memory is never touched: it counts, and
// takes no room.
const heapFloor = 32 << 20

// raiseHeap returns what has to be kept for as long as the floor is to hold.
func raiseHeap() []byte { return make([]byte, heapFloor) }
