package grpcplugin

// heapFloor is how much a plugin's heap grows by before its garbage is collected, however little of it is in use. A plugin that holds
// next to nothing would collect hundreds of times a second for the sake of a few MiB. The memory is never touched: it counts, and takes
// no room.
const heapFloor = 16 << 20

// raiseHeap returns what has to be kept for as long as the floor is to hold.
func raiseHeap() []byte { return make([]byte, heapFloor) }
