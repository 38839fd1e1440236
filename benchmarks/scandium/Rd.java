import java.util.concurrent.atomic.AtomicInteger;
// CoapExchange moved from the second of these to the first.
import org.eclipse.californium.core.*;
import org.eclipse.californium.core.server.resources.*;
import org.eclipse.californium.core.coap.CoAP.ResponseCode;

/** What the servers here answer: nothing is stored, nothing is logged. */
final class Rd {
    private static final AtomicInteger LOCATIONS = new AtomicInteger();

    private Rd() {
    }

    static final class Directory extends CoapResource {
        Directory() {
            super("rd");
        }

        @Override
        public Resource getChild(String name) {
            return this;
        }

        @Override
        public void handlePOST(CoapExchange exchange) {
            if (exchange.advanced().getRequest().getOptions().getUriPathString().length() > 2) {
                exchange.respond(ResponseCode.CHANGED);
            } else {
                exchange.setLocationPath("rd/" + LOCATIONS.incrementAndGet());
                exchange.respond(ResponseCode.CREATED);
            }
        }
    }

    static final class Reports extends CoapResource {
        Reports() {
            super("dp");
        }

        @Override
        public void handlePOST(CoapExchange exchange) {
            exchange.respond(ResponseCode.CHANGED);
        }
    }
}
