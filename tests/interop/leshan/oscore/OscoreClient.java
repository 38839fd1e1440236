import static org.eclipse.leshan.core.LwM2mId.DEVICE;
import static org.eclipse.leshan.core.LwM2mId.OSCORE;
import static org.eclipse.leshan.core.LwM2mId.SECURITY;
import static org.eclipse.leshan.core.LwM2mId.SERVER;

import java.util.List;
import org.eclipse.leshan.client.LeshanClient;
import org.eclipse.leshan.client.LeshanClientBuilder;
import org.eclipse.leshan.client.californium.endpoint.CaliforniumClientEndpointsProvider;
import org.eclipse.leshan.client.californium.endpoint.coap.CoapOscoreProtocolProvider;
import org.eclipse.leshan.client.engine.DefaultRegistrationEngineFactory;
import org.eclipse.leshan.client.object.Device;
import org.eclipse.leshan.client.object.Oscore;
import org.eclipse.leshan.client.object.Security;
import org.eclipse.leshan.client.object.Server;
import org.eclipse.leshan.client.observer.LwM2mClientObserverAdapter;
import org.eclipse.leshan.client.resource.LwM2mObjectEnabler;
import org.eclipse.leshan.client.resource.ObjectsInitializer;
import org.eclipse.leshan.client.servers.LwM2mServer;
import org.eclipse.leshan.core.ResponseCode;
import org.eclipse.leshan.core.request.BootstrapRequest;
import org.eclipse.leshan.core.request.RegisterRequest;

/**
 * A device on Leshan's client that knows nothing but a bootstrap server without security, and has OSCORE under CoAP. It
 * says on stdout what happens; any line on stdin ends it.
 *
 * <p>Arguments: the endpoint name and the URL of the bootstrap server.
 */
public final class OscoreClient {

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    public static void main(String[] arguments) throws Exception {
        String endpoint = arguments[0];
        ObjectsInitializer objects = new ObjectsInitializer();
        objects.setInstancesForObject(DEVICE, new Device("Leshan", "oscore", "00-11-22"));
        objects.setClassForObject(OSCORE, Oscore.class);
        objects.setInstancesForObject(SECURITY, Security.noSecBootstrap(arguments[1]));
        objects.setClassForObject(SERVER, Server.class);
        List<LwM2mObjectEnabler> enablers = objects.create(SECURITY, SERVER, OSCORE, DEVICE);

        LeshanClientBuilder builder = new LeshanClientBuilder(endpoint);
        builder.setObjects(enablers);
        DefaultRegistrationEngineFactory engine = new DefaultRegistrationEngineFactory();
        engine.setRetryWaitingTimeInMs(1_000);
        builder.setRegistrationEngineFactory(engine);
        builder.setEndpointsProviders(
                new CaliforniumClientEndpointsProvider.Builder(new CoapOscoreProtocolProvider()).build());
        LeshanClient client = builder.build();
        client.addObserver(new LwM2mClientObserverAdapter() {
            @Override
            public void onBootstrapSuccess(LwM2mServer server, BootstrapRequest request) {
                say("bootstrapped");
            }

            @Override
            public void onBootstrapFailure(
                    LwM2mServer server, BootstrapRequest request, ResponseCode code, String text, Exception cause) {
                say("bootstrap refused " + code + " " + text + (cause == null ? "" : " " + cause));
            }

            @Override
            public void onRegistrationSuccess(LwM2mServer server, RegisterRequest request, String location) {
                say("registered " + server.getUri() + " " + location);
            }

            @Override
            public void onRegistrationFailure(
                    LwM2mServer server, RegisterRequest request, ResponseCode code, String text, Exception cause) {
                say("register refused " + code + " " + text + (cause == null ? "" : " " + cause));
            }

            @Override
            public void onRegistrationTimeout(LwM2mServer server, RegisterRequest request) {
                say("register silent");
            }

            @Override
            public void onUnexpectedError(Throwable error) {
                say("error " + error);
            }
        });
        client.start();
        System.in.read();
        client.destroy(true);
        System.exit(0);
    }
}
